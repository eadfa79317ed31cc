"""Imports this one module, because it decides how all others are imported."""

from tracker import compiled as compiled
