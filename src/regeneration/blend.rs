// [worker] Fits a rebuilt stem to its surroundings and turns it into a layer.
