"""What the s3 output is made of: parameters, the client, one object's way into the bucket."""
