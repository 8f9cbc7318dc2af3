"""Exceptions for people: each message names the place, what was expected and what to do."""

from __future__ import annotations


class BayesInterestError(Exception):
    """Base of every error the package raises on purpose."""


class InputError(BayesInterestError, ValueError):
    """An argument or a table is not what was expected."""


class EventError(InputError):
    """The interaction log cannot be used as it is."""


class ItemError(InputError):
    """The item table cannot be used as it is, or an item is unknown."""


class ConfigError(InputError):
    """A configuration field has an impossible value."""


class TimeOrderError(InputError):
    """A question or an event lies before what the model has already absorbed."""


class NotFittedError(BayesInterestError, RuntimeError):
    """The model was asked before it was fitted."""


class EncoderError(BayesInterestError, RuntimeError):
    """A text encoder cannot be found, loaded or used."""


class DeviceError(BayesInterestError, RuntimeError):
    """The asked-for device does not exist on this machine."""


class StorageError(BayesInterestError, OSError):
    """A model folder cannot be written or read."""


class DataWarning(UserWarning):
    """The data were usable, but something about them should be known."""
