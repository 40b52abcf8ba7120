"""thin and member: networks that run without what is dropped."""
