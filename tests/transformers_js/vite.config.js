// The app as a module that the test imports; a page of its own would be the entry of a real one.
export default {
  publicDir: "static",
  build: {
    rolldownOptions: { input: "app.js", preserveEntrySignatures: "strict", output: { entryFileNames: "app.js" } },
  },
};
