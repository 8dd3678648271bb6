"""Learning from where a potential fails: explorers now; selectors and the loop build on them."""
