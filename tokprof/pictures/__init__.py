"""The bundled pictures and the script that draws them."""
