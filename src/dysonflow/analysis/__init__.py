"""Stages after training: one file each, from weights to spectra, fits and scaling laws."""
