// The key stands after the #, which browsers send to nobody. It leaves the address, and opens the report.

const key = decodeURIComponent(location.hash.slice(1));
if (key) {
  history.replaceState(null, "", location.pathname);
  document.getElementById("secret").value = key;
  document.getElementById("open").requestSubmit();
}
