"""The bundled model: a data set made by code, its training, its checker and its weights."""
