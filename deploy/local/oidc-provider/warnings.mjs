// Leaves out what oidc-provider warns of at each start, where it is meant: this provider keeps nothing, and runs with the Node.js of the machine.
const EXPECTED = ['Unsupported runtime.', 'a quick start development-only in-memory adapter is used'];
const { warn } = console;

console.warn = (text, ...more) => {
  if (!EXPECTED.some((expected) => String(text).includes(`oidc-provider WARNING: ${expected}`))) warn(text, ...more);
};
