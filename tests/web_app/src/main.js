// As an app does: the URL comes from the env file, relative to where the app is served.
const url = new URL(import.meta.env.BASE_URL + import.meta.env.VITE_MODEL_URL, location.href);
const place = document.querySelector("#model");
if (place) place.textContent = `${url} (${import.meta.env.VITE_MODEL_VERSION})`;
