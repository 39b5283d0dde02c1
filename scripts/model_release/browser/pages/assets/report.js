createViews().show(JSON.parse(document.getElementById("sample").textContent));
