"""What the API says of itself: shapes of replies, and what every route has."""
