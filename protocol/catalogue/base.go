package catalogue

// session has the interfaces that open one (clause 3).
func session() []Interface {
	return []Interface{
		{
			Code: "1001", ZH: "会话密钥请求（设备）", EN: "device session key", Method: Get, Path: "/oauth/getToken", Evidence: Documented, Kiosk: true, Shape: Object,
			Request: []Field{
				need("channelId", String, 32, "渠道编号", "issued per enterprise and environment"),
				need("deviceId", String, 32, "设备编号", "issued at registration"),
			},
			Answer: []Field{
				need("token", String, 512, "接入令牌", "session token; other lengths than 20 are accepted"),
				may("sessionKey", String, 512, "会话密钥", "access password of the session's calls"),
				may("expireTime", Integer, 0, "失效时间", "seconds from now, or an epoch in s or ms", in(Seconds)),
				may("timestamp", Timestamp, 14, "时间戳", "the platform's time"),
			},
			Note: "Missing in the document; read in a client of the platform. Signed with the base key.",
		},
		{
			Code: "1002", ZH: "服务会话密钥请求（企业）", EN: "enterprise session key", Method: Get, Path: "/oauth2/getToken", Evidence: Documented, Kiosk: true, Shape: Object,
			Request: []Field{need("appId", String, 20, "应用ID", "issued by the platform")},
			Answer: []Field{
				need("expireTime", Integer, 0, "会话密钥失效时间", "seconds, default 7200; the sample is an epoch", in(Seconds)),
				need("token", String, 20, "接入令牌", "session token; other lengths than 20 are accepted"),
				may("sessionKey", String, 512, "会话密钥", "access password of the session's calls", grade(Inferred)),
				may("timestamp", Timestamp, 14, "时间戳", "the platform's time", grade(Inferred)),
			},
			Note: "Signed with the base key. A new token ends the one before.",
		},
	}
}

// media is clause 4; events are rows of its early drafts.
func media() []Interface {
	return []Interface{
		{
			Code: "2001", ZH: "文件上传", EN: "media upload", Method: Multipart, Path: "/media/upload", Evidence: Documented, Kiosk: true, Shape: Object,
			Request: []Field{
				need("type", String, 0, "媒体文件类型", "image, voice or thumb; video is answered, never sent"),
				need("media", Bytes, 0, "媒体文件", "the file: filename and content-type of the part"),
			},
			Answer: []Field{
				need("type", String, 0, "媒体文件类型", "image, voice, video or thumb"),
				need("mediaId", String, 32, "媒体文件标识", "names the file from now on; may be used again", alias("media_id")),
				need("createTime", Timestamp, 14, "上传时间戳", "yyyyMMddHHmmss, or an epoch in s or ms"),
			},
			Note: "image 2 MB png jpeg gif, voice 2 MB and 60 s amr mp3, thumb 64 KB jpg. The query is signed, the file is not.",
		},
		{
			Code: "2002", ZH: "文件下载", EN: "media download", Method: Get, Path: "/media/get", Evidence: Documented, Read: true, Shape: File,
			Request: []Field{need("mediaId", String, 32, "媒体文件标识", "as 2001 gave it", doc("media"), alias("media_id"))},
			Note:    "A body that begins with { and has a resultCode is an error, whatever the status says.",
		},
		{
			Code: "2003", ZH: "事件注册", EN: "event registration", Method: Get, Path: "/event/register", Evidence: Inferred, Shape: Object,
			Request: []Field{
				need("eventCode", String, 4, "事件编码", "7001 to 7005", grade(Ours)),
				need("pushUrl", String, 256, "推送地址", "https address the platform calls", grade(Ours)),
			},
			Note: "A title of the drafts, later deleted.",
		},
		{
			Code: "2004", ZH: "事件取消", EN: "event cancel", Method: Get, Path: "/event/cancel", Evidence: Inferred, Shape: Object,
			Request: []Field{need("eventCode", String, 4, "事件编码", "7001 to 7005", grade(Ours))},
			Note:    "A title of the drafts, later deleted.",
		},
	}
}

// window are the fields of a request for one stretch of an incremental table.
func window() []Field {
	return []Field{
		need("orgCode", String, 20, "组织机构编码", "organisation code, appendix B"),
		may("lastTimestamp", Timestamp, 14, "上次同步时间戳", "from; the platform's default is today 00:00"),
		may("timestamp", Timestamp, 14, "时间戳", "to; the platform's default is now"),
		may("areaCode", String, 20, "区域编码", "stands in the document's address, not in its table"),
	}
}

const tableNote = "At most one month. No total and no end mark: only Content-Length or a clean end of chunks tells a whole table. UTF-8 or GB18030."

// downloads is 3001 to 3004.
func downloads() []Interface {
	org := func() Field {
		return need("组织机构编码", String, 20, "组织机构编码", "organisation code", alias("机构编码", "orgCode"))
	}
	return []Interface{
		{
			Code: "3001", ZH: "地址信息增量同步（企业）", EN: "address download", Method: Get, Path: "/addr/download", Evidence: Documented, Read: true, Shape: Table,
			Request: window(),
			Answer: []Field{
				need("地址代码", String, 20, "地址代码", "code of the address"),
				may("父地址代码", String, 20, "父地址代码", "code of what it lies in; empty at the top"),
				need("地址类型", Char, 1, "地址类型", "appendix C; digits occur"),
				need("地址名称", String, 60, "地址名称", "name"),
				may("地址全称", String, 255, "地址全称", "full name"),
				org(),
				need("状态", Char, 1, "状态", "A usable, X not"),
			},
			Note: tableNote,
		},
		{
			Code: "3002", ZH: "供气信息增量同步（企业）", EN: "supply point download", Method: Get, Path: "/suppypoint/download", Fallback: "/supplypoint/download", Evidence: Documented, Read: true, Shape: Table,
			Request: window(),
			Answer: []Field{
				need("供气点编码", String, 20, "供气点编码", "code of the supply point"),
				need("供气点类型", Char, 1, "供气点类型", "1 household, 2 business"),
				need("气源类型", Char, 1, "气源类型", "1 natural gas, 2 liquefied gas, both piped"),
				need("楼栋编码", String, 20, "楼栋编码", "code of the building"),
				may("地址明细", String, 60, "地址明细", "rest of the address"),
				need("是否穿层户", Char, 1, "是否穿层户", "Y or N"),
				org(),
			},
			Note: tableNote + " The path is misspelt by the platform.",
		},
		{
			Code: "3003", ZH: "气户数据增量同步（企业）", EN: "subscriber download", Method: Get, Path: "/subs/download", Evidence: Documented, Kiosk: true, Read: true, Shape: Table,
			Request: window(),
			Answer: []Field{
				need("气户户号", String, 20, "气户户号", "number of the gas account"),
				need("气户名称", String, 60, "气户名称", "name: personal"),
				need("地址编码", String, 20, "地址编码", "code of 3001"),
				need("地址明细", String, 60, "地址明细", "rest of the address: personal"),
				need("气户类型", Char, 1, "气户类型", "1 household, 2 business"),
				need("气户状态", Char, 1, "气户状态", "appendix D"),
				may("联系电话", String, 20, "联系电话", "telephone: personal, never kept"),
				may("手机号码", String, 20, "手机号码", "mobile: personal, never kept"),
				org(),
			},
			Note: tableNote,
		},
		{
			Code: "3004", ZH: "表具信息增量同步（企业）", EN: "meter download", Method: Get, Path: "/meter/download", Evidence: Documented, Kiosk: true, Read: true, Shape: Table,
			Request: window(),
			Answer: []Field{
				need("表具编号", String, 20, "表具编号", "number of the meter; with its type the key (the number alone occurs twice)"),
				need("表具类型", Char, 2, "表具类型", "appendix E"),
				need("型号", Char, 2, "型号", "appendix F"),
				need("表向", Char, 1, "表向", "side"),
				need("状态", Char, 1, "状态", "A usable, X not"),
				may("位置", String, 60, "位置", "where it hangs"),
				need("气户编号", String, 20, "气户编号", "number of the gas account"),
				may("管理模式", Char, 1, "管理模式", "mode"),
				may("厂商代码", String, 20, "厂商代码", "code of the maker"),
				org(),
			},
			Note: tableNote,
		},
	}
}
