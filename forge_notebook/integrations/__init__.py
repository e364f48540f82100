"""Reading sessions back, and other tools' formats and loops."""
