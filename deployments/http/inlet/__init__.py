"""What stands in Serve's proxy before its own code: whose words it obeys, how long it waits."""
