"""Jobs: a plan that never changes, and speech that whoever runs it finds or makes."""
