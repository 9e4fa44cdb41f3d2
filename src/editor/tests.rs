// [main] The editor drawn without a window.
