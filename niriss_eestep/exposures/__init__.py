"""From an association to the stamp around each star: reading associations and files, and cutting."""
