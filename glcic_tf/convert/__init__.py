"""Published weights of the paper's networks, in the layouts of three other programs, as networks of this package.

`torch7` and `torch_checkpoint` read the files, and `published` tells the layouts apart, each of which has a module.
`model_names` has the names of networks, and `model_downloads` fetches those that are published.
"""

LICENCES = {
    "torch7": "CC BY-NC-SA 4.0 (Iizuka, Simo-Serra, Ishikawa): non-commercial use, with attribution, share alike",
    "glcic_pytorch": "MIT (otenim/GLCIC-PyTorch)",
    "mmagic": "Apache-2.0 (open-mmlab/mmagic)",
}
SOURCES = tuple(LICENCES)  # programs whose published weights can be converted
