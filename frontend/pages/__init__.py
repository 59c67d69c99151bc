"""Django views of the pages. A view finds things through selectors, writes through services, and holds no rules of its own."""
