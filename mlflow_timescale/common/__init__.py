"""What every room shares and no library gives: attribution of changes."""
