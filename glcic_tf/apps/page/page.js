() => {
  // The status line is told to readers of screens when it changes; it is there only while a photo is open.
  new MutationObserver(() => document.querySelector("#status:not([role])")?.setAttribute("role", "status"))
    .observe(document.body, { childList: true, subtree: true });

  // A photo that is pasted, or dropped beside the field for it, goes into that field; a page that is left is worse.
  const take = (event, files) => {
    const input = document.querySelector("#photo input[type=file]");
    const photo = [...files].find(file => file.type.startsWith("image/"));
    if (!input || !photo) return;
    event.preventDefault();
    const data = new DataTransfer();
    data.items.add(photo);
    input.files = data.files;
    input.dispatchEvent(new Event("change", { bubbles: true }));
  };
  document.addEventListener("paste", event => take(event, event.clipboardData.files));
  document.addEventListener("dragover", event => event.preventDefault());
  document.addEventListener("drop", event => {
    if (event.defaultPrevented) return;
    event.preventDefault();
    take(event, event.dataTransfer.files);
  });
}
