"""`deployments.capacity`: its profiles, its page, and how near it comes to real runs."""
