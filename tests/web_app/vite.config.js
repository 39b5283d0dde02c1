export default { publicDir: "static" };
