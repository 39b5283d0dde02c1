createViews().show(JSON.parse(/** @type {string} */ (element("sample").textContent)));
