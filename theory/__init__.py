"""The theory as code: closed forms to test against."""
