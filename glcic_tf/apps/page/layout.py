"""What the browser shows: the page in Gradio's components, and which button does what.

The photo itself goes from the uploaded file to the download without passing the browser's canvas: that re-encodes, and
gets a preview only. What comes back from it is the layer that was painted.
"""

from functools import partial
from pathlib import Path

import gradio as gr

from glcic_tf.apps import demo
from glcic_tf.apps.page.buttons import FORMATS, LABELS, MAX_GROW_PX, PHOTO_FORMAT, Work
from glcic_tf.apps.page.previews import BRUSH_RGBA
from glcic_tf.apps.web_guard import where
from glcic_tf.common import cli
from glcic_tf.completion import postprocesses

SAMPLES = {"Coffee": "coffee.png", "Cat": "chelsea.png", "Rocket": "rocket.jpg"}
_HEAVY = "complete"  # id of the queue of completions
_MAX_QUICK = 64
_HERE = Path(__file__).parent
_KEYS = (
    "Keys: **[** **]** brush size, **B** brush, **E** eraser, **Enter** complete, **Ctrl-Z** undo, **C** held: "
    "compare, **M** mask on/off."
)

LOOK = {
    # Fonts of the reader's system: nothing to fetch.
    "theme": gr.themes.Default(
        primary_hue="blue", font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]
    ).set(
        body_text_color_subdued="*neutral_500",
        block_info_text_color="*neutral_500",
        body_text_color_subdued_dark="*neutral_400",
        block_info_text_color_dark="*neutral_400",
    ),
    "css_paths": [_HERE / "page.css"],
    "js": (_HERE / "page.js").read_text(encoding="utf-8"),
    "footer_links": [],
}


def make(models, photos, folder, max_pixels, max_queue):
    """Make the page.

    Args:
        models: a Models.
        photos: a Photos.
        folder: a Folder.
        max_pixels: refuse larger photos and masks.
        max_queue: refuse what is asked for while so many requests wait.

    Returns:
        gradio.Blocks, with its queue.
    """
    with gr.Blocks(title="Remove things from photos", analytics_enabled=False) as page:
        _lay_out(Work(models, photos, folder, max_pixels), models)
    for block in page.blocks.values():
        if isinstance(block, gr.components.Component):
            block.async_move_resource_to_block_cache = partial(_as_it_is, folder)
    page.process_api = partial(_without_traceback, page.process_api)
    # Gradio's bound is for all that waits: completions may not keep others from opening a photo.
    return page.queue(max_size=max_queue + _MAX_QUICK, api_open=False)


class Waiting:
    """What may join the queue of a page.

    Args:
        page: that `make` made.
        max_queue: refuse completions while so many wait.
    """

    def __init__(self, page, max_queue):
        self._page, self._max_queue = page, max_queue

    def refusal(self, sent):
        """Return (HTTP status, reason) if what is sent, a dict with "fn_index" and "data", cannot join, else None."""
        functions, index = self._page.fns, sent.get("fn_index")
        if isinstance(index, bool) or not isinstance(index, int) or index not in functions:
            return 400, "Expected the fn_index of one of the page's functions."
        if not isinstance(sent.get("data", []), list):
            return 400, "Expected a list of data."
        if functions[index].concurrency_id == _HEAVY:
            waiting = self._page._queue.event_queue_per_concurrency_id.get(_HEAVY)
            if waiting and len(waiting.queue) >= self._max_queue:
                return 503, f"The queue is full: {self._max_queue} completions wait already. Try again in a while."
        return None


def _lay_out(work, models):
    token = gr.State(None, delete_callback=work.photos.drop)
    gr.Markdown(
        "# Remove things from photos\nPhotos go to the machine that serves this page, and nowhere else.", elem_id="head"
    )
    with gr.Column(elem_id="start") as start:
        file = gr.File(
            label="Drop a photo here, paste it, or click to choose it",
            file_types=["image"],
            height=280,
            elem_id="photo",
        )
        gr.Markdown("Or begin with a sample:")
        with gr.Row(elem_id="samples"):
            samples = [gr.Button(name, icon=work.thumbnail(SAMPLES[name]), min_width=90) for name in SAMPLES]
    with gr.Row(visible=False, elem_id="work") as main:
        with gr.Column(scale=6, min_width=320, elem_id="canvas"):
            editor = gr.ImageEditor(
                label="Photo to paint on",
                show_label=False,
                elem_id="editor",
                height="var(--canvas-height)",  # page.css
                interactive=True,
                sources=(),
                transforms=(),
                layers=False,
                buttons=[],
                brush=gr.Brush(colors=[(f"rgb{BRUSH_RGBA[:3]}", BRUSH_RGBA[3] / 255)], color_mode="fixed"),
                format="png",
            )
            # Of the browser's three pictures the layers alone count, and they are decoded with our own bounds. Not a
            # subclass: Gradio writes a file beside the module of every one.
            editor.preprocess = _layers
            with gr.Row(elem_id="actions"):
                complete = gr.Button("Complete", variant="primary", min_width=120, elem_id="complete")
                undo = gr.Button("Undo", interactive=False, min_width=90, elem_id="undo")
                save = gr.Button("Download", min_width=90, elem_id="download")
            with gr.Row(elem_id="views"):  # the first two are page.js's alone
                gr.Button("Hold to compare", size="sm", min_width=90, elem_id="compare")
                gr.Button("Mask on/off", size="sm", min_width=90, elem_id="mask_shown")
                snap = gr.Button("Snap to object", size="sm", min_width=90, elem_id="snap")
            status = gr.Markdown(elem_id="status")
            pictures = gr.HTML(elem_id="pictures", visible="hidden")
        with gr.Column(scale=4, min_width=320):
            with gr.Column(visible=False, elem_id="result") as result:
                slider = gr.ImageSlider(
                    label="Before | after", elem_id="slider", interactive=False, buttons=["fullscreen"], max_height=480
                )
                with gr.Row(elem_id="looks"):
                    close = gr.Checkbox(False, label="Close-up", min_width=90, elem_id="close")
                    each = gr.Button("Show all results", size="sm", min_width=90, elem_id="each")
                results = gr.Gallery(
                    label="Click on the one to take",
                    visible=False,
                    columns=2,
                    height="auto",
                    allow_preview=False,
                    interactive=False,
                    buttons=[],
                    elem_id="results",
                )
                kind = gr.Radio(
                    list(FORMATS),
                    value=PHOTO_FORMAT,
                    label="Format of the download",
                    info="PNG keeps what was not painted over bit for bit; JPEG compresses anew.",
                    elem_id="format",
                )
            with gr.Group(elem_id="settings"):
                model = gr.Dropdown(models.names, label="Model", visible=len(models.names) > 1, elem_id="model")
                grow = gr.Slider(
                    0, MAX_GROW_PX, 4, step=1, label="Grow what is painted, px", buttons=[], elem_id="grow"
                )
                postprocess = gr.Dropdown(
                    [(label, name) for name, label in LABELS.items()],
                    value=postprocesses.DEFAULT,
                    label="Fill with",
                    elem_id="postprocess",
                )
            with gr.Accordion("Extend the canvas", open=False, elem_id="extend"):
                with gr.Row(elem_id="sides"):
                    sides = [
                        gr.Number(0, precision=0, minimum=0, label=f"{side}, px", min_width=70)
                        for side in ("Left", "Top", "Right", "Bottom")
                    ]
                extend = gr.Button("Extend", size="sm", elem_id="extend_now")
            with gr.Row(elem_id="mask"):
                random = gr.Button("Random hole", size="sm", min_width=90, elem_id="random")
                mask = gr.UploadButton(
                    "Load mask", size="sm", min_width=90, file_types=["image"], elem_id="mask_upload"
                )
                save_mask = gr.Button("Save mask", size="sm", min_width=90, elem_id="mask_download")
            other = gr.Button("Another photo", size="sm", elem_id="other")
            gr.Markdown(_KEYS, elem_id="keys")
    gr.Markdown("For programs: [the same over HTTP](docs)", elem_id="programs")
    link = gr.DownloadButton("Download", visible="hidden", elem_id="link")

    shown = [editor, status, undo, result, slider, pictures, results]
    opened = [token, file, start, main, *shown]
    # Progress shows on the status line: for every change of it the browser would send a canvas, or what is around one.
    quick = {"api_visibility": "private", "concurrency_limit": 2, "show_progress_on": [status]}
    opening = quick | {"show_progress_on": [file]}
    taken = file.upload(work.open, [file, token], opened, **opening)
    taken.failure(lambda: None, None, [file], **opening)  # so that another can be dropped
    for name, button in zip(SAMPLES, samples, strict=True):
        button.click(partial(work.open, demo.sample_path(SAMPLES[name])), [token], opened, **opening)
    other.click(work.close, [token], [token, file, start, main], **quick)
    random.click(work.random_hole, [token], shown, **quick)
    mask.upload(work.take_mask, [mask, token], shown, **quick)
    editor.clear(work.clear, [token], shown, **quick)
    undo.click(work.undo, [token], shown, **quick)
    extend.click(work.extend, [token, *sides], shown, **quick)
    snap.click(work.snap, [token, editor], shown, **quick)
    close.change(work.look_closely, [token, close], [slider], **quick)
    results.select(work.choose, [token], shown, **quick)
    heavy = {"concurrency_id": _HEAVY, "concurrency_limit": len(models.names)}
    complete.click(work.complete_painted, [token, editor, model, grow, postprocess], shown, **quick | heavy)
    each.click(work.show_results, [token, model], shown, **quick | heavy)
    fetch = "() => document.querySelector('#link').click()"
    for button, function, inputs in ((save, work.save, [token, kind]), (save_mask, work.save_mask, [token, editor])):
        button.click(function, inputs, [link], **quick).success(None, js=fetch, api_visibility="private")


async def _without_traceback(process_api, *arguments, **named):
    """Gradio's own, whose exceptions it would print at length, and tell the visitor with the server's folders."""
    try:
        return await process_api(*arguments, **named)
    except gr.Error as error:
        error.print_exception = False
        raise
    except Exception as error:
        cli.say(f"what a visitor sent failed: {where(error)}")
        raise gr.Error("What was sent is nothing that this page expects.", print_exception=False) from None


async def _as_it_is(folder, path):
    """Instead of Gradio's, which would fetch a URL for a visitor; what is sent and shown lies in the folder already."""
    if path is not None and not folder.owns(path):
        raise gr.Error(f"{str(path)[:200]}: is no uploaded file.", print_exception=False)
    return path


def _layers(payload):
    """The files of the layers that the browser sent; Gradio has checked that they are uploads."""
    return [layer.path for layer in payload.layers if layer] if payload else []
