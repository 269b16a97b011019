"""The page of a spend log: one HTML file with everything in it, that asks nobody for anything.

Its charts are Chart.js 4.6.1 (https://www.chartjs.org, MIT; the licence is beside it): the most used chart library that
is one file without dependencies, draws stacked bars, reads touches, and may be shipped.
"""
