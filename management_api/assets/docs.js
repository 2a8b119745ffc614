SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#docs",
  deepLinking: true,
  displayOperationId: true,
  docExpansion: "list",
  // Outside services: a validator's badge, and the configuration by query string that could name another document.
  validatorUrl: null,
  queryConfigEnabled: false,
});
