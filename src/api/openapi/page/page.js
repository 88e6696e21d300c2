// Search and "Try it" for the documentation page.
'use strict';

document.body.classList.add('scripted');

// The key is read when a request is sent.
document.getElementById('key-form').addEventListener('submit', (event) => event.preventDefault());

const search = document.getElementById('search');
search.addEventListener('input', () => {
  const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
  for (const section of document.querySelectorAll('main section')) {
    let found = false;
    for (const entry of section.querySelectorAll('details, dt')) {
      const text = entry.textContent.toLowerCase();
      const matches = words.every((word) => text.includes(word));
      entry.hidden = !matches;
      if (entry.tagName === 'DT') entry.nextElementSibling.hidden = !matches;
      found ||= matches;
    }
    section.hidden = !found;
  }
});

// A link to an operation or a schema opens it.
function openTarget() {
  const target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (target && target.tagName === 'DETAILS') target.open = true;
}
addEventListener('hashchange', openTarget);
openTarget();

function element(name, properties, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

/** Adds an input to each parameter, an editable body, and a button that sends the request. */
function addForm(operation) {
  for (const row of operation.querySelectorAll('.parameters tbody tr')) {
    const input = element('input', { placeholder: 'value', ariaLabel: row.dataset.name });
    row.cells[0].append(element('br', {}), input);
  }
  const example = operation.querySelector('pre.request');
  let body = null;
  if (example) {
    body = element('textarea', { value: example.textContent, ariaLabel: 'request body' });
    example.replaceWith(body);
  }
  const send = element('button', { type: 'button', textContent: 'Send' });
  const result = element('div', { ariaLive: 'polite' });
  send.addEventListener('click', () => sendRequest(operation, body, example, result));
  operation.append(element('p', {}, send), result);
}

async function sendRequest(operation, body, example, result) {
  let path = operation.dataset.path;
  const query = new URLSearchParams();
  for (const row of operation.querySelectorAll('.parameters tbody tr')) {
    const value = row.querySelector('input').value;
    if (row.dataset.in === 'path') path = path.replace(`{${row.dataset.name}}`, encodeURIComponent(value));
    else if (value !== '') query.append(row.dataset.name, value);
  }
  if (query.size) path += `?${query}`;
  const method = operation.dataset.method.toUpperCase();
  const headers = {};
  const key = document.getElementById('key').value;
  if (key) headers.Authorization = `Bearer ${key}`;
  if (body) headers['Content-Type'] = example.dataset.mediaType;
  result.replaceChildren(element('p', { textContent: 'Sending …' }));
  const started = performance.now();
  try {
    const response = await fetch(path, { method, headers, body: body ? body.value : undefined });
    const text = await response.text();
    const milliseconds = Math.round(performance.now() - started);
    result.replaceChildren(
      element('p', { textContent: `${response.status} ${response.statusText}, ${milliseconds} ms` }),
      element('pre', { textContent: pretty(text) }),
      element('p', { textContent: 'The same with curl:' }),
      element('pre', { textContent: curl(method, path, headers, body) }),
    );
  } catch (error) {
    result.replaceChildren(element('p', { textContent: `The request failed: ${error.message}` }));
  }
}

function pretty(text) {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
}

function curl(method, path, headers, body) {
  const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;
  const parts = [`curl -X ${method} ${quoted(location.origin + path)}`];
  if (headers.Authorization) parts.push('-H "Authorization: Bearer $KEY"');
  if (body) parts.push(`-H ${quoted(`Content-Type: ${headers['Content-Type']}`)}`, `-d ${quoted(body.value)}`);
  return parts.join(' \\\n  ');
}

for (const operation of document.querySelectorAll('details.operation:not(.webhook)')) {
  operation.addEventListener('toggle', () => addForm(operation), { once: true });
}
