"""Steps that leave out the unconditional rows."""
