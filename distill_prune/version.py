"""The version of the package. Its metadata are made from this file."""

VERSION = "0.1.0"
