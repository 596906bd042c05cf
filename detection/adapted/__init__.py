"""Networks that we did not write, behind a few functions of their authors: what families of them share."""
