"""What happens when something breaks? Scripts with servers of their own, run by hand: they take minutes."""
