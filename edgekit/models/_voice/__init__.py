"""What voice conversion is made of: speech to learn from, the networks, and the judges that report on them."""
