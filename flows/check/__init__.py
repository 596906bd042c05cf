"""Stage `check`: is anything worse than the accepted results?"""
