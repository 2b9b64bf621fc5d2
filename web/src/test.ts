// What the browser tests drive: the client itself, and how the page draws, on the page's global.
import * as ocelli from '../ocelli/src/index';
import * as draw from './draw';

Object.assign(window, { ocelli, draw });
