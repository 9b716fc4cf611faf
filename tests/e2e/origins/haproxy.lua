-- The readings of HAProxy, one JSON line for each request; LOG is put in by the test.

local function quoted(text)
    return '"' .. string.gsub(text, '[^ !#-%[%]-~]', function(byte)
        return string.format('\\u%04x', string.byte(byte))
    end) .. '"'
end

local function listed(values)
    local out = {}
    for _, value in ipairs(values) do out[#out + 1] = quoted(value) end
    return '[' .. table.concat(out, ',') .. ']'
end

local function note(method, paths, fields, body)
    local out = {}
    for name, values in pairs(fields) do out[#out + 1] = quoted(name) .. ':' .. listed(values) end
    local log = io.open('LOG', 'a')
    log:write('{"method":' .. quoted(method) .. ',"paths":' .. listed(paths) .. ',"fields":{'
        .. table.concat(out, ',') .. '},"body":' .. quoted(body) .. '}\n')
    log:close()
end

core.register_service('origin', 'http', function(applet)
    local body = applet:receive()
    local fields = {}
    for name, values in pairs(applet.headers) do
        local list = {}
        for _, value in pairs(values) do list[#list + 1] = value end
        fields[name] = list
    end
    note(applet.method, { applet.path }, fields, body)
    applet:set_status(200)
    applet:add_header('content-length', '2')
    applet:start_response()
    applet:send('ok')
end)
