"""x."""
from typing import assert_type

assert_type(5, int)
