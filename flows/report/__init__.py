"""Stage `report`: recommendation, page, pictures, models."""
