"""The bundled model: its generated data set, training, checker and weights."""
