'use strict';
// Without the credentials that the page's own address may have: fetch refuses those.
const openapi = new URL(document.currentScript.dataset.openapi, document.baseURI);
openapi.username = '';
openapi.password = '';
window.ui = SwaggerUIBundle({
  url: openapi.href,
  dom_id: '#swagger-ui',
  deepLinking: true,
  validatorUrl: null,
  presets: [SwaggerUIBundle.presets.apis],
  layout: 'BaseLayout',
});
