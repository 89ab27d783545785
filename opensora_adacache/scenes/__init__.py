"""The training of the bundled model: captioned clips of moving shapes, their renderer, the stages and the checker."""
