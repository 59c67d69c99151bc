"""What people see: pages, Dash views, figures. Imports the platform, and of ml the types only."""
