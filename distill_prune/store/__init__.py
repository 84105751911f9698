"""What lies on the disk: artifacts whole or not at all, checked, packed, kept clean. Knows keys, not studies."""
