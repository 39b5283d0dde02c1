// What Vite puts into the test's web app.
interface ImportMeta {
  readonly env: { readonly BASE_URL: string; readonly VITE_MODEL_URL: string; readonly VITE_MODEL_VERSION: string };
}
