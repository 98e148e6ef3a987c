"""Classifiers: architectures, input layers."""
