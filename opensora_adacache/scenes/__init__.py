"""The data set of the bundled model: captioned clips of moving shapes, its renderer, training and checker."""
