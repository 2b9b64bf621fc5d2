// What the browser tests drive: the client itself, on the page's global.
import * as ocelli from '../ocelli/src/index';

Object.assign(window, { ocelli });
