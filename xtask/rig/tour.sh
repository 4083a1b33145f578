echo tour
