-- What a script finds around it. `G` is what Lua itself brings, `R` what Rust adds; `globals` and
-- `function_globals` are the empty tables that scripts and libraries get as their globals.
local G, R, globals, function_globals = ...
local error, type, tostring, select, next = G.error, G.type, G.tostring, G.select, G.next
local raw_pcall, raw_xpcall, rawget, rawset = G.pcall, G.xpcall, G.rawget, G.rawset
local raw_getmetatable, raw_setmetatable = G.getmetatable, G.setmetatable
local raw_loadstring, raw_load, raw_setfenv, raw_pairs = G.loadstring, G.load, G.setfenv, G.pairs
local raw_resume, byte = G.coroutine.resume, G.string.byte
local halted, text_of, place = R.halted, R.text_of, R.place

-- Tables that no script may change: an empty one in front of the real one.

local READONLY = 'Attempt to modify a readonly table'
local behind = {}

local function refuse()
  error(READONLY, 2)
end

local shown = raw_setmetatable({}, { __newindex = refuse, __metatable = true })
behind[shown] = {}

local function guard(real, front)
  front = front or {}
  local meta = { __index = real, __newindex = refuse, __metatable = shown }
  raw_setmetatable(front, meta)
  behind[front] = real
  return front, meta
end

local function missing(_, name)
  error("Script attempted to access nonexistent global variable '" .. tostring(name) .. "'", 2)
end

raw_getmetatable('').__metatable = shown

-- Errors. A script that was told to stop cannot catch that.

local function stop_if_halted(err)
  if halted() then
    error(err, 0)
  end
end

local function outcome(ok, ...)
  if ok then
    return true, ...
  end
  local err = ...
  stop_if_halted(err)
  if type(err) == 'userdata' then
    err = text_of(err)
  elseif type(err) == 'table' then
    local message = err.err
    if type(message) == 'string' then
      err = message
    end
  end
  return false, err
end

local function plain_outcome(ok, ...)
  if not ok then
    stop_if_halted((...))
  end
  return ok, ...
end

local function handler(err)
  local source, line = place()
  if type(err) == 'userdata' then
    err = text_of(err)
  end
  if type(err) ~= 'table' then
    err = { err = 'ERR ' .. tostring(err) }
  end
  if source and not behind[err] then
    rawset(err, 'source', source)
    rawset(err, 'line', line)
  end
  return err
end

-- A function of Rust's answers whether it succeeded, then its results or the message.
local function results(ok, ...)
  if ok then
    return ...
  end
  error((...), 3)
end

local function checked(f)
  return function(...)
    return results(f(...))
  end
end

local function all_checked(functions)
  local library = {}
  for name, f in raw_pairs(functions) do
    library[name] = type(f) == 'function' and checked(f) or f
  end
  return library
end

local function raise(message)
  error({ err = 'ERR ' .. message }, 0)
end

-- redis.*

local run = nil

-- More arguments than this go over as a table: a function of Rust's cannot be called with so many.
local ARGUMENTS_MAX = 1000

local function run_command(...)
  local count = select('#', ...)
  if count > ARGUMENTS_MAX then
    return run(2, { ... }, count)
  end
  return run(0, ...)
end

local redis = {
  REDIS_VERSION = R.version,
  REDIS_VERSION_NUM = R.version_number,
  LOG_DEBUG = 0,
  LOG_VERBOSE = 1,
  LOG_NOTICE = 2,
  LOG_WARNING = 3,
  REPL_NONE = 0,
  REPL_AOF = 1,
  REPL_SLAVE = 2,
  REPL_REPLICA = 2,
  REPL_ALL = 3,
}

function redis.call(...)
  if not run then
    raise('redis.call/pcall can only be called inside a script invocation')
  end
  local failed, value = run_command(...)
  if failed then
    error(value, 0)
  end
  return value
end

function redis.pcall(...)
  if not run then
    raise('redis.call/pcall can only be called inside a script invocation')
  end
  local failed, value = run_command(...)
  if failed then
    stop_if_halted(value)
  end
  return value
end

function redis.acl_check_cmd(...)
  if not run then
    raise('redis.acl_check_cmd can only be called inside a script invocation')
  end
  local failed, value = run(1, ...)
  if failed then
    error(value, 0)
  end
  return value
end

function redis.sha1hex(...)
  if select('#', ...) ~= 1 then
    raise('wrong number of arguments')
  end
  return R.sha1hex(...)
end

function redis.error_reply(...)
  if select('#', ...) ~= 1 or type(...) ~= 'string' then
    return { err = 'ERR wrong number or type of arguments' }
  end
  return { err = R.error_text(...) }
end

function redis.status_reply(...)
  if select('#', ...) ~= 1 or type(...) ~= 'string' then
    return { err = 'ERR wrong number or type of arguments' }
  end
  return { ok = (...) }
end

function redis.log(...)
  local count = select('#', ...)
  if count < 2 then
    raise('redis.log() requires two arguments or more.')
  end
  local level = G.tonumber((...))
  if not level then
    raise('First argument must be a number (log level).')
  end
  if level < 0 or level > 3 then
    raise('Invalid debug level.')
  end
  R.log(...)
end

function redis.setresp(...)
  if not run then
    raise('redis.setresp can only be called inside a script invocation')
  end
  if select('#', ...) ~= 1 then
    raise('redis.setresp() requires one argument.')
  end
  if not R.setresp(G.tonumber((...)) or 0) then
    raise('RESP version must be 2 or 3.')
  end
end

-- Effects are what is logged, always and all of them.
function redis.set_repl(...)
  if not run then
    raise('redis.set_repl can only be called inside a script invocation')
  end
  if select('#', ...) ~= 1 then
    raise('redis.set_repl() requires two arguments.')
  end
  local flags = G.tonumber((...)) or 0
  if flags < 0 or flags >= 4 then
    raise('Invalid replication flags. Use REPL_AOF, REPL_REPLICA, REPL_ALL or REPL_NONE.')
  end
end

function redis.replicate_commands()
  return true
end

-- Lua's own functions, where they could reach behind the guards.

local base = {
  _VERSION = G._VERSION,
  assert = G.assert,
  collectgarbage = G.collectgarbage,
  error = error,
  gcinfo = G.gcinfo,
  getfenv = G.getfenv,
  getmetatable = raw_getmetatable,
  ipairs = G.ipairs,
  newproxy = G.newproxy,
  rawequal = G.rawequal,
  select = select,
  tonumber = G.tonumber,
  tostring = tostring,
  type = type,
  unpack = G.unpack,
}

function base.pcall(...)
  return outcome(raw_pcall(...))
end

function base.xpcall(...)
  return plain_outcome(raw_xpcall(...))
end

function base.setmetatable(t, meta)
  if behind[t] then
    error(READONLY, 2)
  end
  return raw_setmetatable(t, meta)
end

function base.rawset(t, key, value)
  if behind[t] then
    error(READONLY, 2)
  end
  return rawset(t, key, value)
end

function base.rawget(t, key)
  return rawget(behind[t] or t, key)
end

function base.next(t, key)
  return next(behind[t] or t, key)
end

function base.pairs(t)
  local real = behind[t]
  if not real then
    return raw_pairs(t)
  end
  return function(_, key)
    return next(real, key)
  end, t, nil
end

function base.setfenv(f, environment)
  if f == 0 then
    error(READONLY, 2)
  end
  if type(f) == 'number' then
    f = f + 1
  end
  local done = raw_setfenv(f, environment)
  return done
end

local function is_binary(chunk)
  return type(chunk) == 'string' and byte(chunk, 1) == 27
end

function base.loadstring(chunk, name)
  if is_binary(chunk) then
    return nil, 'binary code is not loaded'
  end
  return raw_loadstring(chunk, name)
end

function base.load(reader, name)
  local begun = false
  return raw_load(function()
    local piece = reader()
    if not begun and type(piece) == 'string' and piece ~= '' then
      begun = true
      if is_binary(piece) then
        error('binary code is not loaded', 0)
      end
    end
    return piece
  end, name)
end

local coroutine = {}
for name, f in raw_pairs(G.coroutine) do
  coroutine[name] = f
end

function coroutine.resume(...)
  return plain_outcome(raw_resume(...))
end

local math = {}
for name, f in raw_pairs(G.math) do
  math[name] = f
end
math.random = checked(R.random)
math.randomseed = checked(R.randomseed)

base.coroutine = guard(coroutine)
base.math = guard(math)
base.string = guard(G.string)
base.table = guard(G.table)
base.os = guard({ clock = R.clock })
base.redis = guard(redis)
base.bit = guard(all_checked(R.bit))
base.struct = guard(all_checked(R.struct))
base.cmsgpack = guard(all_checked(R.cmsgpack))

local function cjson(functions)
  local library = all_checked(functions)
  function library.new()
    return cjson(R.cjson_new())
  end
  return library
end
base.cjson = guard(cjson(R.cjson))

-- The globals of scripts, and those of libraries.

local eval_real = {}
local function_real = {}
for name, value in raw_pairs(base) do
  eval_real[name] = value
  function_real[name] = value
end
eval_real._G = globals
function_real._G = function_globals
raw_setmetatable(eval_real, { __index = missing })
raw_setmetatable(function_real, { __index = missing })
guard(eval_real, globals)
local _, function_meta = guard(function_real, function_globals)

local function eval(f, runner, keys, arguments)
  eval_real.KEYS, eval_real.ARGV = keys, arguments
  run = runner
  local ok, value = raw_xpcall(f, handler)
  run = nil
  return ok, value
end

local function call(f, runner, keys, arguments)
  run = runner
  local ok, value = raw_xpcall(function()
    return f(keys, arguments)
  end, handler)
  run = nil
  return ok, value
end

-- A library is loaded with little around it: it may only register functions.

local register = nil

local loading_redis = {
  REDIS_VERSION = redis.REDIS_VERSION,
  REDIS_VERSION_NUM = redis.REDIS_VERSION_NUM,
  LOG_DEBUG = 0,
  LOG_VERBOSE = 1,
  LOG_NOTICE = 2,
  LOG_WARNING = 3,
  log = redis.log,
}

function loading_redis.register_function(...)
  if not register then
    raise('redis.register_function can only be called on FUNCTION LOAD command')
  end
  local problem = register(...)
  if problem then
    raise(problem)
  end
end

raw_setmetatable(loading_redis, { __index = missing })
local loading_real = raw_setmetatable({ redis = guard(loading_redis) }, { __index = missing })

local function load_library(chunk, registrar)
  function_meta.__index = loading_real
  register = registrar
  local ok, err = raw_pcall(chunk)
  register = nil
  function_meta.__index = function_real
  if ok then
    return true
  end
  if type(err) == 'userdata' then
    return false, 'ERR ' .. text_of(err)
  elseif type(err) == 'table' then
    return false, tostring(rawget(err, 'err'))
  end
  return false, 'ERR ' .. tostring(err)
end

return eval, call, load_library
