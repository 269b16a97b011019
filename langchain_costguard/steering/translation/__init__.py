"""What is bound in one provider's words, put to another provider's model: read, objected to or written anew."""
