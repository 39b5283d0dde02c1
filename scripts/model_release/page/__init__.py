"""Pages that people look at: `report.html` of a release, and `try.html` that draws live outputs.

`sample` runs a released model on one prompt, `plot` places points, `render` fills the templates. Both
pages draw with the same `assets/views.js`; each is one file that a browser lets ask for nothing it does not name.
"""
