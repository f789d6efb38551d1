"""Published weights of the paper's networks, in the layouts of three other programs, as networks of this package.

`torch7` and `torch_checkpoint` read the files, `published` tells the layouts apart, each of which has a module.
"""

SOURCES = ("torch7", "glcic_pytorch", "mmagic")  # programs whose published weights can be converted
